"""Core AI: an `.aimodel` with a function per bucket, by Apple's own converter."""
