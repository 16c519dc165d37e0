T0=$(date +%s)
python3 -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --upgrade --target /tmp/site .whl/*.whl 2>&1 | tail -2
export PYTHONPATH=/tmp/site:$PWD PYTHONUNBUFFERED=1 GOMP_SPINCOUNT=20000
nvidia-smi --query-gpu=name,memory.total,driver_version --format=csv,noheader; nproc
python3 - <<'P'
import torch, torchvision, onnxruntime, numpy, cv2, google.protobuf as p, sys
print(sys.version.split()[0], torch.__version__, torchvision.__version__, "ort", onnxruntime.__version__, numpy.__version__, cv2.__version__, "protobuf", p.__version__)
P
OMP_NUM_THREADS=1 timeout -s INT 190 python3 -m pytest -n 15 -p no:cacheprovider --tb=short -q --durations=15 > $OUT/suite.log 2>&1
echo "suite rc $? after $(( $(date +%s) - T0 )) s"; tail -60 $OUT/suite.log
if [ -f .dev/bench.sh ]; then timeout 100 bash .dev/bench.sh > $OUT/bench.log 2>&1; echo "bench rc $? after $(( $(date +%s) - T0 )) s"; tail -60 $OUT/bench.log; fi
