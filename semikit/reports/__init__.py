"""A page about finished runs; its door is `page.write_report`."""
