"""What somebody who knows installations like this one would look at: findings, each with why it matters and what mends it.

`examination` runs the checks. Each lives in a module named after what it looks at and changes nothing.
"""

from backup.doctor.examination import examine
from backup.doctor.finding import Finding, Severity

__all__ = ["Finding", "Severity", "examine"]
