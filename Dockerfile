# syntax=docker/dockerfile:1
# docker build -t e2enet .                                          for a CPU, without PyTorch
# docker build -t e2enet:cuda --build-arg EXTRAS=torch,dicom \
#     --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu128 .   for NVIDIA cards
# docker run --rm -v "$PWD:/data" e2enet segment head.nii.gz --model hippocampus-mr -o out.nii.gz
ARG PYTHON=3.12
FROM python:${PYTHON}-slim

# Of engine/pyproject.toml, with commas between; and where PyTorch comes from, if one needs it.
ARG EXTRAS=""
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu

COPY engine /tmp/e2enet/engine
COPY Resources/Models /tmp/e2enet/Resources/Models
RUN pip install --no-cache-dir --extra-index-url "${TORCH_INDEX}" \
        "/tmp/e2enet/engine${EXTRAS:+[${EXTRAS}]}" \
    && rm -rf /tmp/e2enet \
    && e2enet doctor

# Compiled kernels and unpacked models are kept here; nothing needs root.
RUN useradd --create-home --uid 1000 e2enet
USER e2enet
WORKDIR /data
ENTRYPOINT ["e2enet"]
CMD ["--help"]
