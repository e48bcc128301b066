set -u
mkdir -p /tmp/site /tmp/ptx
cat /tmp/site.a .device/b/site.part | tar -C /tmp/site -xJf -
tar -C /tmp -xJf .device/b/ptx-h100-mlx-0.32.4.tar.xz
export PYTHONPATH=/tmp/site:$PWD HF_HUB_OFFLINE=1 HOME=/tmp/home PYTHONUNBUFFERED=1 MLX_PTX_CACHE_DIR=/tmp/ptx
mkdir -p $HOME $OUT
export PYTHONPATH=$PYTHONPATH:$PWD/scripts
date
timeout 300 python3 scripts/bench-presets.py --part keys --suite default --option=--timeout=120 --save $OUT/a > $OUT/default.md 2> $OUT/default.err
date
timeout 200 python3 scripts/bench-plain.py --model llama-8b --kind lora --quantize 4 > $OUT/plain.md 2> $OUT/plain.err
date
cat $OUT/*.md
tail -5 $OUT/*.err
