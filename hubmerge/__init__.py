"""hubmerge: turn a recipe into a merged model."""
