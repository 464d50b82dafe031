import sys
root=sys.argv[1]
p=f'{root}/README.md'; s=open(p).read()
def r(a,b):
    global s
    if s.count(a)!=1: print('skip',a[:60]); return
    s=s.replace(a,b)
r('''networks whose weights are -1, 0 or +1 all the way through training, with no float master copy
and nothing but integers in the optimiser.
''','''networks whose weights are -1, 0 or +1 all the way through training, with no float master copy
and nothing but integers in the optimiser. Each gradient casts an integer vote; a weight moves when
its votes reach a threshold. Alpha, 0.1; Apache-2.0; Linux; its GPU kernels are for Hopper.
''')
r('''It is for people who write kernels for such training, or train with them. Public ternary kernels
are tested with tolerances, with half of the codes missing, or not at all. Here is
''','''It is for people who write kernels for such training, or train with them:
''')
r('''All that a kernel computes is integer arithmetic. A sum of integers has one value whatever the
tiling, the device or the order, so two backends agree to the last bit or one of them is wrong.
''','''Every sum that a kernel computes is of integers, and float32 appears only in exact scales of two and
single roundings. So two backends agree to the last bit or one of them is wrong. What lies between
the ternary modules (norms, attention, the loss) is float work of the library, and is not judged.
''')
r('''On Linux, with Python 3.11 or newer and git. Each makes its own `.venv` the first time.
''','''With Python 3.11 or newer and git. The first of them makes `.venv`, in a few minutes.
''')
r('''scripts/test.sh     # lint, types, docs, the suite on every backend, mutants   (half an hour)
''','''scripts/test.sh     # style, types, docs; all on torch, kernels' tests on each   (half an hour)
''')
r('''| backends agree bit for bit, CPU | 5,900 tests, whole domains | [clauses](docs/traceability.md) |
''','''| backends agree bit for bit, CPU | 2,200 to 2,300 tests each | [log](docs/log/2026-11-26.md) |
''')
r('''| wrong programs are killed | 98.3 %, on the weakest lane 72.8 % (aim: 95) | [mutants](docs/mutants.md) |
''','''| wrong programs killed | 98.3 to 100 % a set; 72.8 % on target "c" (aim: 95) | [table](docs/mutants.md) |
''')
r('''| text, beside BitNet at its best | 0 to 0.07 nats behind (aim: ahead) | [table](docs/results/gpu_python.md) |
''','''| text, beside BitNet | 0.01 to 0.07 nats behind (aim: ahead) | [table](docs/results/gpu_python.md) |
''')
r('''from training.ternary_runtime import configure_ternary_training  # or from arbitor.runtime
''','''from arbitor.runtime import configure_ternary_training  # training.ternary_runtime has it too
''')
r('''Not yet: those aims, and one step's same bits on a GPU and a CPU. [The log](docs/log/index.md) has
every measurement with its command, also what disappointed.
''','''Not yet: those aims, and the same bits of the float work too. [The log](docs/log/index.md) has every
measurement with its command, also what disappointed.
''')
r('''conformance/   operations/ runtime/ training/ tools/ specification/: the tests, by subject
               judge/ draw/ oracle/ machine/: what judges; vectors/ mutants/ cheats/ meta/
''','''conformance/   the tests: operations/ runtime/ training/ tools/ specification/, meta/ of the suite
               what judges: judge/ compares, draw/ makes arguments, oracle/, machine/ whole steps
               vectors/, mutants/ (wrong programs), cheats/ (dishonest backends)
''')
r('''`update/test_linear_update.py` in `conformance/operations/`. A flag of the trainers is a line in
`training/options.py`. [CONTRIBUTING.md](CONTRIBUTING.md) has the way from a clause to a kernel.
''','''`update/test_linear_update.py` in `conformance/operations/`; all are imported as `arbitor.<folder>`.
The trainers' flags are in `training/options.py`. [CONTRIBUTING.md](CONTRIBUTING.md) has the way from
a clause to a kernel.
''')
open(p,'w').write(s)
print(len(s.split('\n'))-1,'lines', [l for l in s.split('\n') if len(l)>100 and not l.startswith('|')])
r('''conformance/   the tests: operations/ runtime/ training/ tools/ specification/, meta/ of the suite
               what judges: judge/ compares, draw/ makes arguments, oracle/, machine/ whole steps
               vectors/, mutants/ (wrong programs), cheats/ (dishonest backends)
''','''conformance/   tests in operations/ runtime/ training/ tools/ specification/ meta/; judge/ compares,
               draw/ makes arguments; oracle/ machine/ vectors/ mutants/ cheats/
''')
r('''`update/test_linear_update.py` in `conformance/operations/`; all are imported as `arbitor.<folder>`.
The trainers' flags are in `training/options.py`. [CONTRIBUTING.md](CONTRIBUTING.md) has the way from
a clause to a kernel.
''','''`update/test_linear_update.py` in `conformance/operations/`; all are imported as `arbitor.<folder>`.
The trainers' flags are in `training/options.py`. More is in [CONTRIBUTING.md](CONTRIBUTING.md).
''')
r('''
600 steps take a minute or two on two idle cores. Without `--data` the corpus is CPython's own
documentation; any file or folder is one too. Stop with Ctrl-C and go on with `--resume`: the run
ends in the losses and the state hash of one that was never stopped. For images, sound, diffusion,
experts, finetuning, several processes and float twins see [training](docs/training.md).
''','''
600 steps take a minute or two on two idle cores. Stop with Ctrl-C and go on with `--resume`: the
run ends in the losses and the state hash of one that was never stopped. For your own text, images,
sound, experts, finetuning, processes and float twins see [training](docs/training.md).
''')
open(p,'w').write(s)
print(len(s.split('\n'))-1,'lines', [l for l in s.split('\n') if len(l)>100 and not l.startswith('|')])
