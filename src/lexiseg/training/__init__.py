"""Fine-tuning of encoders and training of students."""
