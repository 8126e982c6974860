def side(bench):
    """x"""
def ring(bench):
    """x"""
