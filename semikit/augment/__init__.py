"""How images become views: weak geometry in the workers, strong views on the device (kornia)."""
