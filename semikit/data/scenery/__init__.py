"""What made aerial scenes consist of: streets and land, buildings, trees and cars, light, the camera."""
