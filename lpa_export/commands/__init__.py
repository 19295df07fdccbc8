"""One file per command; none of them imports anything heavy before it runs."""
