"""Integer lowering: the operations of an integer program (`optc.passes.quantize.integer`) as TVM's loops."""
