"""Training of models that separate or enhance speech: mixtures made on the fly, SI-SNR."""
