"""The parts of made aerial scenes."""
