"""The scripts that build what ships in cache/demo."""
