# Makes repd@.service of repd.service: one service of several on a machine, repd@NAME.
s/^Description=.*/& %i/
s,/etc/default/repd$,&-%i,
s/^RuntimeDirectory=repd$/&-%i/
s,/run/repd/,/run/repd-%i/,
