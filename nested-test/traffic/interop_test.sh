# SPDX-License-Identifier: Apache-2.0
# hatch, ncat, socat and Python, each with each, over Argo: a file from who connects, and a file to who connects.
. /data/domains.sh
[ -s /data/programs.tar ] || die "ncat, socat or Debian's python3 is missing on this machine; run: tools/setup --full"
meet
for where in dom0 pv pvh; do
  at "$where" 'tar -C / -xf /data/programs.tar; head -c 300000 /dev/urandom > /tmp/cargo' || die "$where has no room for the programs"
done
port=4000

# The command that listens: PROGRAM send|recv.  Received is what goes to standard output.
listener() {
  case $1-$2 in
    hatch-*) echo "hatch -v -l --$2-only $port" ;;
    ncat-*) echo "/usr/bin/ncat -v --vsock -l --$2-only $port" ;;
    socat-send) echo "/usr/bin/socat -d -d -u STDIN VSOCK-LISTEN:$port" ;;
    socat-recv) echo "/usr/bin/socat -d -d -u VSOCK-LISTEN:$port STDOUT" ;;
    python-*) echo "/usr/bin/python3 -I -S /data/vsock_pipe.py listen $port $2" ;;
  esac
}

# The command that connects: PROGRAM send|recv CID.
connector() {
  case $1-$2 in
    hatch-*) echo "hatch --$2-only $3 $port" ;;
    ncat-*) echo "/usr/bin/ncat --vsock --$2-only $3 $port" ;;
    socat-send) echo "/usr/bin/socat -u STDIN VSOCK-CONNECT:$3:$port" ;;
    socat-recv) echo "/usr/bin/socat -u VSOCK-CONNECT:$3:$port STDOUT" ;;
    python-*) echo "/usr/bin/python3 -I -S /data/vsock_pipe.py connect $3 $port $2" ;;
  esac
}

# carry CONNECTING WHERE LISTENING WHERE up|down: a file of 300000 bytes, up from who connects or down to it.
carry() {
  port=$((port + 1))
  if [ "$5" = up ]; then
    connects=send listens=recv name="$1 in $2 to $3 in $4"
    receiver=$4
  else
    connects=recv listens=send name="$3 in $4 to $1 in $2"
    receiver=$2
  fi
  begin listener.log "$4" "$(listener "$3" $listens) < /tmp/cargo > /tmp/$port"
  await listener.log istening
  at "$2" "$(connector "$1" $connects "$(cid "$4")") < /tmp/cargo > /tmp/$port" > connector.log 2>&1
  connected=$?
  wait "$pid"
  listened=$?
  if [ $connected$listened = 00 ]; then echo "$receiver $port $name" >> carried; else
    echo "# it ended with $connected who connects, $listened who listens:"
    sed 's/^/# /' connector.log listener.log
    fail "$name"
  fi
}

programs="hatch ncat socat python"
for connecting in $programs; do
  for listening in $programs; do
    for direction in up down; do carry $connecting dom0 $listening pv $direction; done
  done
  # From a guest to dom0, and from guest to guest.
  carry $connecting pvh hatch dom0 up
  carry hatch pv $connecting dom0 down
  carry $connecting pvh $connecting pv up
done

# The digests, in one go for each domain.
for where in dom0 pv pvh; do at "$where" 'cd /tmp; sha256sum cargo 4???' > "sums-$where"; done

for where in dom0 pv pvh; do grep -q ' cargo$' "sums-$where" || die "$where has not summed its files"; done

# sum WHERE FILE
sum() { sed -n "s/ *$2\$//p" "sums-$1"; }

while read -r receiver port name; do
  sender=${name%% to *}
  same "$name" "$(sum "${sender##* }" cargo)" "$(sum "$receiver" "$port")"
done < carried
