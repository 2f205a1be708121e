"""What looks for malware: clamd, asked, judged and run."""
