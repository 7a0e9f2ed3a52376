"""Adapters that put a trained model into the decoders of other tools.

    charlm.decoders.kenlm        an object with the methods and units of the `kenlm` module; needs no other package
    charlm.decoders.pyctcdecode  a language model for pyctcdecode, and a decoder that prices half words in context
    charlm.decoders.flashlight   a language model for flashlight-text, whose tokens are characters

All stand on the states of `charlm.scoring.states`. Each module imports the tool that it is for, and nothing else of
charlm imports these modules.
"""
