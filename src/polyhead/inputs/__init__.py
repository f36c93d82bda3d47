"""Text in: files become clean lines, lines become ids, ids become padded batches with their lengths.

The order of the files is the order of the flow: `readers` (and `text`) give examples, `tokenizer` (or `spm`, for Marian
folders) turns them into ids, `corpus` keeps the ids on disk, `batch` plans and pads. `image` turns images into pixels,
`sound` turns sounds into pictures of what is heard.
"""
