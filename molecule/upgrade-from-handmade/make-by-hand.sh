#!/bin/sh
# The recipe that ppctl replaces (DEVELOPERS.md), faults and all, as somebody would have typed it years ago.
set -eu
home=/home/deploy
cd $home

python3 -m venv venv
venv/bin/pip install -q pypiserver libpass

mkdir -p packages/old
cp /opt/wheels/ppctl-*.whl packages
cp /opt/wheels/click-*.whl packages/old

# htpasswd -s: SHA-1 without salt
for name in ann bob; do
    python3 -c 'import base64, hashlib, sys
print(sys.argv[1] + ":{SHA}" + base64.b64encode(hashlib.sha1(sys.argv[2].encode()).digest()).decode())' \
        "$name" "$name's old password"
done >htpasswd

# Without exec: stopping it stops the shell.
cat >run-pypi.sh <<END
#!/bin/sh
$home/venv/bin/pypi-server run -p 3141 -i 0.0.0.0 -a update -P $home/htpasswd $home/packages
echo ended
END
cat >pypi-server.conf <<END
[program:pypi]
command=/bin/sh $home/run-pypi.sh
user=deploy
autorestart=true
END
chown -R deploy: .

ln -s $home/pypi-server.conf /etc/supervisor/conf.d/pypi-server.conf
supervisorctl update
for _ in $(seq 300); do
    curl -sf http://127.0.0.1:3141/simple/ppctl/ >/dev/null && exit 0
    sleep 0.2
done
supervisorctl tail pypi stderr
exit 1
