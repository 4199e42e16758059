part = records()
rows = []
end = part['start'] + part['count']
for i in range(part['start'], end, 100):
    rows += read(i, min(100, end - i))
rows = [row.split(': ', 1)[1].split(', ') for row in rows]
q = goal.split(': ', 1)[1].replace('?', '').split()
col = {'user': 1, 'kind': 2, 'place': 4}
def having(name, value):
    return [row for row in rows if row[col[name]] == value]
def tally(name):
    counts = {}
    for row in rows:
        counts[row[col[name]]] = counts.get(row[col[name]], 0) + 1
    return counts
if q[:4] == ['How', 'many', 'records', 'have']:
    above = int(q[10].strip('.')) if 'above' in q else 0
    finish(len([row for row in having(q[4], q[5].strip('.')) if int(row[3].split()[1]) > above]))
elif q[0] == 'How':
    finish(tally(q[7]))
elif q[0] == 'Do':
    a, b = len(having(q[4], q[5])), len(having(q[4], q[8]))
    finish(q[5] if a > b else q[8] if b > a else 'same')
elif q[0] == 'Which':
    counts = tally(q[1])
    finish(max(counts, key=lambda name: counts[name]))
else:
    times = sorted([row[0] for row in having(q[6], q[7])])
    finish((times[0] if q[3] == 'earliest' else times[-1]) if times else 'none')
