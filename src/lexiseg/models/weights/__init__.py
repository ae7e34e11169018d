"""Where weights come from: bundled, a folder, a hub; checksums and records."""
