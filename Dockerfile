# The command line with every toolchain, for CPUs alone: no CUDA, 3 GB less.
#   docker build -t mobilevit .
#   docker run --rm -v "$PWD:/work" -u "$(id -u):$(id -g)" mobilevit convert my_finetuned.pth --out artifacts
FROM python:3.11-slim-bookworm

# XDG_CACHE_HOME: what is fetched on request goes where any user may write.
ENV PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu \
    PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_ROOT_USER_ACTION=ignore \
    XDG_CACHE_HOME=/tmp/cache \
    HOME=/tmp

COPY . /src
RUN python -m pip install -c /src/constraints.txt '/src[all]' \
    && rm -rf /src \
    && mobilevit doctor

WORKDIR /work
USER 65534:65534
ENTRYPOINT ["mobilevit"]
CMD ["--help"]
