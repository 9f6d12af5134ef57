"""HTTP: what the world may ask of calllogd."""
