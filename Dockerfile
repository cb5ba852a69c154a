# An image of Waypost: `make dist`, then `docker build --tag waypost .` The application comes on top of it, as /app/application.py
# with a server `io`: by an image of your own (`FROM waypost`, `COPY application.py /app/`), or by a mount.
# It runs as a user of its own, keeps its store in the volume /data, and stops within what `docker stop -t 40` gives.
FROM python:3.13-slim

ARG WHEEL=dist/*.whl
COPY ${WHEEL} /tmp/wheels/
RUN pip install --no-cache-dir /tmp/wheels/*.whl \
    && rm -r /tmp/wheels \
    && useradd --uid 10001 --home-dir /app --create-home waypost \
    && install --directory --owner waypost /data

WORKDIR /app
USER 10001
VOLUME /data
EXPOSE 8000
STOPSIGNAL SIGTERM
# Whatever the command line is, probes are answered within the container. `waypost health` shows how it is.
ENV WAYPOST_HEALTH=127.0.0.1:8001
HEALTHCHECK --interval=10s --timeout=6s --start-period=60s CMD ["waypost", "health", "http://127.0.0.1:8001"]
ENTRYPOINT ["waypost", "serve"]
CMD ["application:io", "--host", "0.0.0.0", "--port", "8000", "--store", "/data/store.db"]
