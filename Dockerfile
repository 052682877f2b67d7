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

COPY engine /source/engine
COPY Resources/Models /source/Resources/Models
RUN pip install --no-cache-dir --extra-index-url "${TORCH_INDEX}" \
        "/source/engine${EXTRAS:+[${EXTRAS}]}" \
    && rm -rf /source \
    && e2enet doctor

# Compiled kernels and unpacked models are kept here; nothing needs root.
RUN useradd --create-home --uid 1000 e2enet
USER e2enet
WORKDIR /data
ENTRYPOINT ["e2enet"]
CMD ["--help"]
