#!/usr/bin/env bash
# Prints the Secret weir-admin with fresh tokens, to be applied once in each namespace:
#
#   docker/kubernetes/admin-secret.sh | kubectl apply --namespace production -f -
#
# tokens is weir's own file of them; operator, prometheus and keda hold one of its tokens each, for who uses it. weir takes
# up a changed Secret by itself, about a minute later: to rotate, apply the output of another run, and have the users read
# it anew. In between old tokens are refused, so add the new lines to tokens first where that matters.
set -euo pipefail

token() { od -An -N32 -tx1 /dev/urandom | tr -d ' \n'; }

operator=$(token) prometheus=$(token) keda=$(token)

cat <<YAML
apiVersion: v1
kind: Secret
metadata:
  name: weir-admin
type: Opaque
stringData:
  # The first one is what "weir --token-file" takes: it may write.
  tokens: |
    operator:write:$operator
    prometheus:read:$prometheus
    keda:read:$keda
  operator: $operator
  prometheus: $prometheus
  keda: $keda
YAML
