"""Everything that is read from and written to disk: the only modules that know files."""
