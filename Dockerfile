# One image for all roles; docker-compose.yml starts a container for each, under its own user, on a read-only root file system.
FROM debian:12-slim

RUN apt-get update \
    && apt-get install -y --no-install-recommends age openssh-client python3 python3-venv restic \
    && rm -rf /var/lib/apt/lists/* \
    && uid=10001 && for role in gateway keyd ingest backup drill prune web; do \
         useradd --uid $uid --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin nightsafe-$role; uid=$((uid + 1)); \
       done

WORKDIR /app
COPY requirements.lock pyproject.toml README.md nightsafe.py ./
COPY config config
COPY gateway gateway
COPY backup backup
RUN python3 -m venv /opt/nightsafe \
    && /opt/nightsafe/bin/pip install --no-cache-dir --require-hashes -r requirements.lock \
    && /opt/nightsafe/bin/pip install --no-cache-dir --no-deps --no-build-isolation . \
    && install -d -m 0711 /data && install -d -o nightsafe-drill -g nightsafe-drill -m 0700 /scratch

ENV PATH=/opt/nightsafe/bin:/usr/bin:/bin NIGHTSAFE_DATA=/data/nightsafe PYTHONDONTWRITEBYTECODE=1
USER nightsafe-gateway
ENTRYPOINT ["nightsafe"]
CMD ["up"]
