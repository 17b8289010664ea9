# One image for all roles; docker-compose.yml starts a container for each. Runs as nobody in particular, on a read-only root file system.
FROM debian:12-slim

RUN apt-get update \
    && apt-get install -y --no-install-recommends age openssh-client python3 python3-venv restic \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --user-group --no-create-home --home-dir /data --shell /usr/sbin/nologin nightsafe

WORKDIR /app
COPY requirements.lock pyproject.toml README.md nightsafe.py ./
COPY config config
COPY gateway gateway
COPY backup backup
RUN python3 -m venv /opt/nightsafe \
    && /opt/nightsafe/bin/pip install --no-cache-dir --require-hashes -r requirements.lock \
    && /opt/nightsafe/bin/pip install --no-cache-dir --no-deps --no-build-isolation . \
    && install -d -o 10001 -g 10001 -m 0700 /data /scratch /tmp/nightsafe

ENV PATH=/opt/nightsafe/bin:/usr/bin:/bin NIGHTSAFE_DATA=/data/nightsafe PYTHONDONTWRITEBYTECODE=1
USER 10001:10001
ENTRYPOINT ["nightsafe"]
CMD ["up"]
