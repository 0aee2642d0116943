"""What runs the plan elsewhere: Buildbot, and hosted CI."""
