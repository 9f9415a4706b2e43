#!/bin/sh
# Counts the words of each request:
#     repd serve --framing lines -- examples/words.sh
set -f
while read -r line; do
    set -- $line
    echo $#
done
