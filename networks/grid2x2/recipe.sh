#!/bin/sh
# Makes grid2x2.net.xml: four signals 150 m apart, one lane and a left-turn pocket on each approach.
# Run it in this folder with SUMO's tools on the PATH. The demand is written by hand in grid2x2.rou.xml.
set -eu
netgenerate --grid --grid.number 2 --grid.length 150 --grid.attach-length 150 --default.lanenumber 1 \
  --turn-lanes 1 --turn-lanes.length 40 --no-turnarounds \
  --default-junction-type traffic_light --tls.cycle.time 60 --tls.yellow.time 3 --tls.left-green.time 8 \
  --seed 1 --output-file grid2x2.net.xml
