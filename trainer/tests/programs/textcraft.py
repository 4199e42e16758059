for want in goal.split(': ')[1].split('\n')[0].strip('.').split(', '):
    count, item = want.split('x ')
    recipe = get_info([item])[0]['recipes'][0]
    batches = -(-int(count) // recipe['result_count'])
    needs = {name: n * batches for name, n in recipe['ingredients'].items()}
    for info in get_info(list(needs)):
        short = needs[info['item']] - info['in_inventory']
        if short > 0:
            await launch_subagent('', targets={info['item']: short})
    craft(needs, [item, batches * recipe['result_count']])
finish('done')
