"""The paper's training tables, made again: one thing varied at a time, measured in training and in RCI.

``studies`` says which runs a table needs, ``run`` trains and measures those that are missing, ``report``
shows what came out. Nothing is imported here, so that names of studies do not load torch.
"""
