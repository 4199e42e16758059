names = [w for w in goal.split('?')[0].split()[2:] if w not in ('the', 'of')]
person, relations = names[-1], names[:-1][::-1]
if len(relations) > 3:
    person = await launch_subagent('', person=person, relations=relations[:3])
    relations = relations[3:]
for relation in relations:
    fact = 'The ' + relation + ' of ' + person + ' is '
    for hit in search(fact):
        text = open(hit['id'])
        if fact in text:
            person = text.split(fact)[1].split('.')[0]
            break
finish(person)
