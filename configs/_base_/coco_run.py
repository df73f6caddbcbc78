# Shared by all COCO experiments: the data's source, and the seed.
custom_imports = dict(imports=['mmmutual'], allow_failed_imports=False)

data_help = """
COCO 2017 belongs in data/coco: annotations/instances_{train,val}2017.json, train2017/*.jpg, val2017/*.jpg.
  fetch it (about 20 GB, resumable):  python tools/misc/download_coco.py
  or link an existing copy:           mkdir -p data && ln -s /path/to/coco data/coco
  or try mmmutual without it:         python tools/misc/draw_shapes.py
                                      python tools/train.py configs/mutual_mask_rcnn_r18_shapes.py
"""
randomness = dict(seed=0)
