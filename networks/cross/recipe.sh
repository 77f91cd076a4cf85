#!/bin/sh
# Makes cross.net.xml: one signal, four approaches of 200 m, two lanes and a left-turn pocket each.
# Run it in this folder with SUMO's tools on the PATH. The demand is written by hand in cross.rou.xml.
set -eu
netgenerate --grid --grid.number 1 --grid.attach-length 200 --default.lanenumber 2 \
  --turn-lanes 1 --turn-lanes.length 50 --no-turnarounds \
  --default-junction-type traffic_light --tls.cycle.time 60 --tls.yellow.time 3 --tls.left-green.time 8 \
  --seed 1 --output-file cross.net.xml
