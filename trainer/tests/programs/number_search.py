w = goal.split()
low, high = int(w[5]), int(w[7].strip('.'))
found = 'not here'
if high - low >= 64:
    n = (high - low + 1) // 4
    jobs = [launch_subagent('', low=a, high=a + n - 1) for a in range(low, high, n)]
    for answer in await asyncio.gather(*jobs):
        if answer not in (None, 'not here'):
            found = answer
else:
    for a in range(low, high + 1, 16):
        if probe(a, a + 15):
            b = a + 15
            while a < b:
                m = (a + b) // 2
                if probe(a, m):
                    b = m
                else:
                    a = m + 1
            found = a
            break
finish(found)
