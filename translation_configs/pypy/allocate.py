"""Allocates enough, some of it kept, for a generational collector to show its steps."""

kept = []
for i in range(1500000):
    kept.append([i, str(i)])
    if len(kept) > 400000:
        del kept[:200000]
print(len(kept))
