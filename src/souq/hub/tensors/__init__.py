"""Objects of the tensor store, beside git over HTTP: read by whoever knows a digest, brought by who may push."""
