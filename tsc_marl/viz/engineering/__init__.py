"""Pictures that traffic engineers draw of signals: time-space diagram, splits and cycles, queues, level of service."""
