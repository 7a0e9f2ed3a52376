"""What the machine offers: files, threads, devices and memory."""
