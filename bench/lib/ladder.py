def ladder(bench):
    """x"""
