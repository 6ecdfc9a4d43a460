"""Ray's cluster launcher (``ray up``) on AWS, GCP, Azure and hosts of one's own.

Rendering is pure: ``launcher_document`` gives the launcher's YAML, ``permissions`` the policies of
the roles on AWS. All start from the complete files beside this one and set values as data.
"""
