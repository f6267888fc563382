# The main job in a container:
#   docker build -t csrobust . && docker run --rm -v "$PWD/docker-runs:/csrobust/runs/digits" csrobust
FROM python:3.11-slim-bookworm
RUN apt-get update \
    && apt-get install --yes --no-install-recommends make \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /csrobust
COPY . .
RUN make install
CMD ["make", "eval"]
