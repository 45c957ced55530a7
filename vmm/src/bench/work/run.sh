# Runs the measured programs: run.sh COPIES[:SECONDS] [NAME...]. One line on stdout for each: what, nanoseconds, hash of its output.
# The same script runs in a Debian guest and, for comparison, in a native Debian root. COPIES run at a time; with SECONDS each goes on running the program
# until so much time has passed, the nanoseconds are those of one run of each copy, and the line ends with thousandths of runs of each copy.
copies=${1%%:*}
seconds=0
case $1 in *:*) seconds=${1#*:} ;; esac
shift
export LC_ALL=C PATH=/usr/bin HOME=/tmp OMP_NUM_THREADS=1
for directory in /usr/lib/*-linux-gnu/openblas-pthread; do export LD_LIBRARY_PATH=$directory; done
here=/bench
python=python3.11

prepare() {
    $python $here/prepare.py /tmp/text || exit 1
    head -c 6000000 /tmp/text >/tmp/text6
    head -c 1500000 /tmp/text >/tmp/text1
    # Byte code and page cache: what is measured is the second run.
    $python -c 'import numpy, json, ctypes, hashlib, re' || exit 1
    # Only where it is used: how long it takes is a matter of luck.
    case " $* " in *" rsa "*) ;; *) return ;; esac
    openssl genpkey -quiet -algorithm RSA -outform DER -out /tmp/rsa.der 2>/dev/null || exit 1
}

run_gcc() { gcc-12 -O2 -c -I $here $here/program.c -o o && cat o; }
run_python() { $python $here/loops.py; }
run_json() { $python $here/documents.py; }
run_perl_regex() { perl $here/regex.pl /tmp/text1; }
run_perl_hash() { perl $here/hash.pl; }
run_gzip() { gzip -6 -c /tmp/text6 >z && gzip -dc z; }
run_xz() { xz -T1 -3 -c /tmp/text1 >z && xz -dc z; }
run_zstd() { zstd -q --single-thread -9 -c /tmp/text6 >z && zstd -qdc z; }
run_aes_gcm() { $python $here/crypto.py aes_gcm; }
run_sha256() { $python $here/crypto.py sha256; }
run_rsa() { $python $here/crypto.py rsa; }
run_ecdsa() { $python $here/crypto.py ecdsa; }
run_matmul() { $python $here/arrays.py matmul; }
run_sort() { $python $here/arrays.py sort; }
run_vector() { $python $here/arrays.py vector; }
run_fork_exec() {
    for ((i = 0; i < 150; i++)); do
        /usr/bin/true
        x=$(echo $i | /usr/bin/cat)
        echo "$x"
    done
}

now() { local t=$EPOCHREALTIME; echo "${t/./}"; }

again() {
    local runs=0 begin=${EPOCHREALTIME/./} spent=0
    while ((spent < seconds * 1000000)); do
        "$1" >out 2>err || return 1
        spent=$((${EPOCHREALTIME/./} - begin))
        runs=$((runs + 1))
    done
    echo $runs $spent >done
}

measure_rate() {
    local name=$1 copy runs spent total=0 rate=0
    for ((copy = 0; copy < copies; copy++)); do mkdir -p /tmp/w$copy; done
    echo "VMM-BENCH $name begins"
    for ((copy = 0; copy < copies; copy++)); do
        (cd /tmp/w$copy && again "run_${name//-/_}") &
    done
    wait
    echo "VMM-BENCH $name ends"
    for ((copy = 0; copy < copies; copy++)); do
        [ -e /tmp/w$copy/done ] || { fail $name $copy; return; }
        read runs spent </tmp/w$copy/done
        total=$((total + runs))
        rate=$((rate + runs * 1000000000000 / spent))
    done
    sum=$(cat /tmp/w*/out | sha256sum)
    echo "VMM-BENCH $name $((copies * 1000000000000000 / rate)) ${sum%% *} $((total * 1000 / copies))"
    rm -rf /tmp/w*
}

measure() {
    local name=$1 begin end copy
    for ((copy = 0; copy < copies; copy++)); do mkdir -p /tmp/w$copy; done
    echo "VMM-BENCH $name begins"
    begin=$(now)
    if ((copies == 1)); then
        (cd /tmp/w0 && "run_${name//-/_}" >out 2>err) || fail $name 0
    else
        for ((copy = 0; copy < copies; copy++)); do
            (cd /tmp/w$copy && "run_${name//-/_}" >out 2>err && echo >done) &
        done
        wait
        for ((copy = 0; copy < copies; copy++)); do [ -e /tmp/w$copy/done ] || fail $name $copy; done
    fi
    end=$(now)
    echo "VMM-BENCH $name ends"
    sum=$(cat /tmp/w*/out | sha256sum)
    echo "VMM-BENCH $name $(((end - begin) * 1000)) ${sum%% *}"
    rm -rf /tmp/w*
}

fail() {
    echo "VMM-BENCH $1 failed: $(tail -n 3 /tmp/w$2/err | tr '\n' ' ')"
}

prepare "$@"
for name; do if ((seconds == 0)); then measure $name; else measure_rate $name; fi; done
echo "VMM-BENCH end"
