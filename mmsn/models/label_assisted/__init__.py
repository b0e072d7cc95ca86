"""Label-assisted distillation: a teacher that also sees the labels, and its students.

``labels`` codes and noises label maps, ``stem`` lets a backbone see them, ``losses`` compares
logits, ``segmentors`` makes teachers and students out of mmseg's segmentors.
"""

from mmsn.models.label_assisted.segmentors import label_assisted_student, label_assisted_teacher

__all__ = ["label_assisted_student", "label_assisted_teacher"]
