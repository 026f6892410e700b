"""One file a stage, under its word: files in, files out, the sidecar.  Read me first."""
