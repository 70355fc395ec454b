# The same image from a binary that is already built, with no base at all: for machines that cannot pull one.
# docker/prebuilt.sh makes the context: the binary, the shared libraries it names, and an empty /data.
FROM scratch
COPY rootfs /
COPY --chown=10001:10001 data /data
USER 10001:10001
WORKDIR /data
VOLUME /data
EXPOSE 7401 7501 7601
ENTRYPOINT ["/usr/local/bin/sillok"]
CMD ["serve"]
