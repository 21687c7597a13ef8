def run(world, count): pass
def again(world, trial, number): pass
