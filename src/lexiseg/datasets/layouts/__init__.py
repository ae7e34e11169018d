"""Published data sets as they are downloaded, read into manifests."""
