"""The embedded S3 server: SeaweedFS as a role of its own, for a look."""
